package ledger

import (
	"slices"

	"github.com/keyledger/keyledger/events"
)

// plan checks a plan's terms and fills in what it leaves out.
func (c *checks) plan(p *events.Plan) {
	if p == nil {
		return
	}
	c.text("plan name", p.Name, 1, maxNameChars)
	if p.Price.Asset == "" {
		p.Price.Asset = defaultAsset
	}
	c.that(events.ValidName(p.Price.Asset), "price asset must be 1 to 64 of a-z 0-9 _ -")
	if p.Price.Default == nil {
		price := int64(defaultPrice)
		p.Price.Default = &price
	}
	c.that(*p.Price.Default >= 0 && *p.Price.Default <= MaxAmount, "price default must be a whole number from 0 to %d", int64(MaxAmount))
	c.that(len(p.Price.Per) <= maxProducts, "%d prices, at most %d are allowed", len(p.Price.Per), maxProducts)
	for name, price := range p.Price.Per {
		c.that(validPermission(name, false), "price for %.80q must name <product>:read or <product>:write", name)
		c.that(price >= 0 && price <= MaxAmount, "price for %.80q must be a whole number from 0 to %d", name, int64(MaxAmount))
	}
	if p.Rate != nil {
		c.that(p.Rate.PerSecond >= 1 && p.Rate.PerSecond <= maxRatePerSecond, "rate per_second must be from 1 to %d", maxRatePerSecond)
		if p.Rate.Burst == 0 {
			p.Rate.Burst = p.Rate.PerSecond
		}
		c.that(p.Rate.Burst >= 1 && p.Rate.Burst <= maxBurst, "rate burst must be from 1 to %d", maxBurst)
	}
	c.that(p.MaxKeys >= 0 && p.MaxKeys <= maxPlanKeys, "max_keys must be from 0 to %d", maxPlanKeys)
	c.allowance(p.Allowance)
	c.assets(p)
}

func (c *checks) allowance(a *events.Allowance) {
	if a == nil {
		return
	}
	if a.Asset == "" {
		a.Asset = defaultAsset
	}
	c.that(events.ValidName(a.Asset), "allowance asset must be 1 to 64 of a-z 0-9 _ -")
	c.that(a.Amount >= 1 && a.Amount <= MaxAmount, "allowance amount must be a whole number from 1 to %d", int64(MaxAmount))
	if a.Every == "" {
		a.Every = events.Day
	}
	c.that(a.Every == events.Day || a.Every == events.Month, "allowance every must be day or month")
	if a.TimeZone == "" {
		a.TimeZone = "UTC"
	}
	_, err := events.Zone(a.TimeZone)
	c.that(err == nil, "allowance time_zone %.64q is not a name of the IANA time zone database such as Europe/Berlin", a.TimeZone)
}

// assets checks what a plan says of assets: their scale and class, how far each may go
// below zero, and which stand in for each other.
func (c *checks) assets(p *events.Plan) {
	c.that(len(p.Assets) <= maxPlanAssets, "%d assets, at most %d are allowed", len(p.Assets), maxPlanAssets)
	for name, a := range p.Assets {
		if a.Class == "" {
			a.Class = events.Credits
			p.Assets[name] = a
		}
		c.that(events.ValidName(name), "asset %.70q must be 1 to 64 of a-z 0-9 _ -", name)
		c.that(a.Scale >= 0 && a.Scale <= maxScale, "scale of asset %.70q must be from 0 to %d", name, maxScale)
		c.that(slices.Contains([]string{events.Credits, events.Fiat, events.Crypto}, a.Class), "class of asset %.70q must be credits, fiat or crypto", name)
	}
	c.that(len(p.Overdraft) <= maxPlanAssets, "%d overdrafts, at most %d are allowed", len(p.Overdraft), maxPlanAssets)
	for name, limit := range p.Overdraft {
		c.that(events.ValidName(name), "overdraft asset %.70q must be 1 to 64 of a-z 0-9 _ -", name)
		c.that(limit >= 0 && limit <= MaxAmount, "overdraft of %.70q must be a whole number from 0 to %d", name, int64(MaxAmount))
	}
	c.that(len(p.Par) <= maxPar, "%d par pairs, at most %d are allowed", len(p.Par), maxPar)
	for i, pair := range p.Par {
		c.that(len(pair) == 2 && pair[0] != pair[1], "a par pair names two different assets such as [\"usd\",\"usdc\"]")
		c.that(!slices.ContainsFunc(p.Par[:i], func(old []string) bool { return samePair(old, pair) }), "par pair %.150q stands twice", pair)
		for _, name := range pair {
			c.that(events.ValidName(name), "par asset %.70q must be 1 to 64 of a-z 0-9 _ -", name)
		}
	}
}

// samePair says whether two par pairs are of the same assets, whichever comes first.
func samePair(a, b []string) bool {
	return slices.Equal(a, b) || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
