package events

import "fmt"

// Code says why a command, query or authorisation was refused. Codes are part of the
// wire contract: fixed words that clients branch on.
type Code string

// The codes, each with its HTTP status in statuses.
const (
	OK                  Code = "ok"
	InvalidArgument     Code = "invalid_argument"
	KeyNotFound         Code = "key_not_found"
	InsufficientCredits Code = "insufficient_credits"
	KeyDisabled         Code = "key_disabled"
	KeyExpired          Code = "key_expired"
	KeyRevoked          Code = "key_revoked"
	IPNotAllowed        Code = "ip_not_allowed"
	PermissionDenied    Code = "permission_denied"
	ProductNotEnabled   Code = "product_not_enabled"
	EnvironmentDisabled Code = "environment_disabled"
	AccountSuspended    Code = "account_suspended"
	NotFound            Code = "not_found"
	AlreadyExists       Code = "already_exists"
	FailedPrecondition  Code = "failed_precondition"
	LimitExceeded       Code = "limit_exceeded"
	CommandExpired      Code = "command_expired"
	IDReused            Code = "id_reused"
	RateLimited         Code = "rate_limited"
	StorageFull         Code = "storage_full"
	OutcomeUnknown      Code = "outcome_unknown"
	Unavailable         Code = "unavailable"
)

// statuses is the error map: the one place where a code becomes an HTTP status.
var statuses = map[Code]int{
	OK: 200, InvalidArgument: 400, KeyNotFound: 401, InsufficientCredits: 402,
	KeyDisabled: 403, KeyExpired: 403, KeyRevoked: 403, IPNotAllowed: 403, PermissionDenied: 403,
	ProductNotEnabled: 403, EnvironmentDisabled: 403, AccountSuspended: 403,
	NotFound: 404, AlreadyExists: 409, FailedPrecondition: 409, LimitExceeded: 409,
	CommandExpired: 409, IDReused: 422, RateLimited: 429, StorageFull: 507,
	OutcomeUnknown: 503, Unavailable: 503,
}

// Status returns the HTTP status of c, 500 for a code it does not know.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return 500
}

// Error is a refusal: nothing was changed. It is also the JSON of an error reply's
// "error" member. Message is for people and says what to do; Details is for programs.
type Error struct {
	Code    Code           `json:"code"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf makes an Error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// With adds a detail and returns e.
func (e *Error) With(name string, value any) *Error {
	if e.Details == nil {
		e.Details = map[string]any{}
	}
	e.Details[name] = value
	return e
}
