package webhooks

import "fmt"

// ConsentPolicy is what becomes of receivers that do not say that they take deliveries.
type ConsentPolicy string

const (
	// ConsentPolicyRequire: they cannot be registered.
	ConsentPolicyRequire ConsentPolicy = "require"
	// ConsentPolicyPrefer: they are registered, and marked unconfirmed. The default.
	ConsentPolicyPrefer ConsentPolicy = "prefer"
	// ConsentPolicyOff: nobody is asked.
	ConsentPolicyOff ConsentPolicy = "off"
)

// ParseConsentPolicy reads a policy's name; "" stands for ConsentPolicyPrefer.
func ParseConsentPolicy(name string) (ConsentPolicy, error) {
	switch p := ConsentPolicy(name); p {
	case "":
		return ConsentPolicyPrefer, nil
	case ConsentPolicyRequire, ConsentPolicyPrefer, ConsentPolicyOff:
		return p, nil
	}
	return "", fmt.Errorf("%q is not require, prefer or off", name)
}
