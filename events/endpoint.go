package events

// Endpoint is the data of every endpoint event: the endpoint after it. The signing
// secret, the values of custom headers and the query part of the URL are sealed in the
// stored form (see Sealer) and absent from the public one.
type Endpoint struct {
	ID          string   `json:"id"`
	Account     string   `json:"account"`
	Environment string   `json:"environment"`
	URL         string   `json:"url"` // without its query
	Events      []string `json:"events"`
	Description string   `json:"description"`
	Headers     []string `json:"headers"` // names of custom headers, sorted
	Status      string   `json:"status"`  // Active, Paused, Disabled or Removed
	Reason      string   `json:"reason,omitempty"`
	Signing     string   `json:"signing"`
	CreatedAt   Time     `json:"created_at"`

	SealedSecret  []byte   `json:"-"` // field "secret"
	SealedQuery   []byte   `json:"-"` // field "query", nil where the URL has none
	SealedHeaders [][]byte `json:"-"` // field "header/<name>", as Headers are ordered
}

// Code implements Data.
func (e *Endpoint) Code(c *Coder) {
	c.String(&e.ID)
	c.String(&e.Account)
	c.String(&e.Environment)
	c.String(&e.URL)
	c.Strings(&e.Events)
	c.String(&e.Description)
	c.Strings(&e.Headers)
	c.String(&e.Status)
	c.String(&e.Reason)
	c.String(&e.Signing)
	c.Time(&e.CreatedAt)
	c.Blob(&e.SealedSecret)
	c.Blob(&e.SealedQuery)
	n := c.Len(len(e.SealedHeaders))
	if c.reading && n > 0 {
		e.SealedHeaders = make([][]byte, n)
	}
	for i := range e.SealedHeaders {
		c.more()
		c.Blob(&e.SealedHeaders[i])
	}
}
