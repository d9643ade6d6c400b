package v1beta1

// StringMatch is a condition on a string; at most one of its fields is set.
// +kubebuilder:validation:XValidation:rule="[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)].filter(x, x).size() <= 1",message="set only one of exact, prefix, suffix and regex"
type StringMatch struct {
	// Exact is the whole string.
	// +optional
	Exact string `json:"exact,omitempty"`

	// Prefix is how the string begins.
	// +optional
	Prefix string `json:"prefix,omitempty"`

	// Suffix is how the string ends.
	// +optional
	Suffix string `json:"suffix,omitempty"`

	// Regex is a regular expression for the whole string (RE2).
	// +optional
	Regex string `json:"regex,omitempty"`
}

// HTTPMatchRequest is one condition on requests; all of its parts must hold. The fields are
// those of an Istio VirtualService.
type HTTPMatchRequest struct {
	// Name of the condition.
	// +optional
	Name string `json:"name,omitempty"`

	// URI is a condition on the path.
	// +optional
	URI *StringMatch `json:"uri,omitempty"`

	// Scheme is a condition on the scheme.
	// +optional
	Scheme *StringMatch `json:"scheme,omitempty"`

	// Method is a condition on the HTTP method.
	// +optional
	Method *StringMatch `json:"method,omitempty"`

	// Authority is a condition on the host.
	// +optional
	Authority *StringMatch `json:"authority,omitempty"`

	// Headers are conditions on request headers, by lower-case name.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	Headers map[string]StringMatch `json:"headers,omitempty"`

	// WithoutHeaders are conditions on request headers that must not hold.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	WithoutHeaders map[string]StringMatch `json:"withoutHeaders,omitempty"`

	// QueryParams are conditions on query parameters, by name.
	// +kubebuilder:validation:MaxProperties=128
	// +optional
	QueryParams map[string]StringMatch `json:"queryParams,omitempty"`

	// Port the request came in on.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// SourceLabels are labels of the client's pod.
	// +optional
	SourceLabels map[string]string `json:"sourceLabels,omitempty"`

	// SourceNamespace is the namespace of the client.
	// +optional
	SourceNamespace string `json:"sourceNamespace,omitempty"`

	// Gateways the condition is for.
	// +optional
	Gateways []string `json:"gateways,omitempty"`

	// IgnoreURICase compares the path without regard to case.
	// +optional
	IgnoreURICase bool `json:"ignoreUriCase,omitempty"`
}

// HTTPRewrite changes path or host of requests.
type HTTPRewrite struct {
	// URI replaces the path, or the matched prefix of it.
	// +optional
	URI string `json:"uri,omitempty"`

	// Authority replaces the host.
	// +optional
	Authority string `json:"authority,omitempty"`

	// Type is ReplacePrefixMatch to replace the matched prefix; anything else replaces the
	// whole path (Gateway API).
	// +optional
	Type string `json:"type,omitempty"`
}

// HTTPRetry is a retry policy.
type HTTPRetry struct {
	// Attempts is the number of retries.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Attempts int32 `json:"attempts"`

	// PerTryTimeout is the timeout of one attempt, as a duration such as 2s.
	// +optional
	PerTryTimeout string `json:"perTryTimeout,omitempty"`

	// RetryOn are the failures to retry after, separated by commas.
	// +optional
	RetryOn string `json:"retryOn,omitempty"`
}

// Headers changes headers of requests and responses.
type Headers struct {
	// Request changes the headers of requests.
	// +optional
	Request *HeaderOperations `json:"request,omitempty"`

	// Response changes the headers of responses.
	// +optional
	Response *HeaderOperations `json:"response,omitempty"`
}

// HeaderOperations adds, sets and removes headers.
type HeaderOperations struct {
	// Set overwrites headers.
	// +optional
	Set map[string]string `json:"set,omitempty"`

	// Add appends to headers.
	// +optional
	Add map[string]string `json:"add,omitempty"`

	// Remove drops headers.
	// +optional
	Remove []string `json:"remove,omitempty"`
}

// CorsPolicy is a cross-origin policy.
type CorsPolicy struct {
	// AllowOrigin are the origins allowed, as plain strings.
	// +optional
	AllowOrigin []string `json:"allowOrigin,omitempty"`

	// AllowOrigins are conditions on the origins allowed (Istio).
	// +kubebuilder:validation:MaxItems=256
	// +optional
	AllowOrigins []StringMatch `json:"allowOrigins,omitempty"`

	// AllowMethods are the HTTP methods allowed.
	// +optional
	AllowMethods []string `json:"allowMethods,omitempty"`

	// AllowHeaders are the request headers allowed.
	// +optional
	AllowHeaders []string `json:"allowHeaders,omitempty"`

	// ExposeHeaders are the response headers a browser may read.
	// +optional
	ExposeHeaders []string `json:"exposeHeaders,omitempty"`

	// MaxAge is how long a browser may cache the answer, as a duration such as 24h.
	// +optional
	MaxAge string `json:"maxAge,omitempty"`

	// AllowCredentials lets a browser send credentials.
	// +optional
	AllowCredentials *bool `json:"allowCredentials,omitempty"`
}

// ParentReference names what an HTTPRoute attaches to: a Gateway, or a Service in a mesh.
type ParentReference struct {
	// Group of the parent.
	// +kubebuilder:default=gateway.networking.k8s.io
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Group *string `json:"group,omitempty"`

	// Kind of the parent.
	// +kubebuilder:default=Gateway
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	// +optional
	Kind *string `json:"kind,omitempty"`

	// Namespace of the parent. Default: the namespace of the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Namespace *string `json:"namespace,omitempty"`

	// Name of the parent.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// SectionName is the name of a listener or port of the parent.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	SectionName *string `json:"sectionName,omitempty"`

	// Port of the parent.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port *int32 `json:"port,omitempty"`
}

// HTTPRequestMirrorFilter copies requests to a backend.
type HTTPRequestMirrorFilter struct {
	// BackendRef is the backend.
	BackendRef BackendObjectReference `json:"backendRef"`
}

// BackendObjectReference names a backend.
// +kubebuilder:validation:XValidation:rule="(size(self.group) == 0 && self.kind == 'Service') ? has(self.port) : true",message="Must have port for Service reference"
type BackendObjectReference struct {
	// Group of the backend. Default: the core group.
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Group *string `json:"group,omitempty"`

	// Kind of the backend.
	// +kubebuilder:default=Service
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	// +optional
	Kind *string `json:"kind,omitempty"`

	// Name of the backend.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Namespace of the backend. Default: the namespace of the Canary.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Namespace *string `json:"namespace,omitempty"`

	// Port of the backend; a Service needs one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port *int32 `json:"port,omitempty"`
}
