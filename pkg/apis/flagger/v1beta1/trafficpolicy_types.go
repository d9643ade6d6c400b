package v1beta1

// TrafficPolicy is the policy of an Istio DestinationRule.
type TrafficPolicy struct {
	// ConnectionPool limits connections and requests.
	// +optional
	ConnectionPool *ConnectionPoolSettings `json:"connectionPool,omitempty"`

	// LoadBalancer chooses among the endpoints.
	// +optional
	LoadBalancer *LoadBalancerSettings `json:"loadBalancer,omitempty"`

	// OutlierDetection takes failing endpoints out.
	// +optional
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`

	// TLS settings of connections to the endpoints.
	// +optional
	TLS *TLSSettings `json:"tls,omitempty"`
}

// ConnectionPoolSettings limits connections and requests.
type ConnectionPoolSettings struct {
	// HTTP limits requests.
	// +optional
	HTTP *HTTPSettings `json:"http,omitempty"`
}

// HTTPSettings limits requests.
type HTTPSettings struct {
	// H2UpgradePolicy says whether connections are upgraded to HTTP/2.
	// +kubebuilder:validation:Enum=DEFAULT;DO_NOT_UPGRADE;UPGRADE
	// +optional
	H2UpgradePolicy string `json:"h2UpgradePolicy,omitempty"`

	// HTTP1MaxPendingRequests is the number of requests that may wait for a connection.
	// +optional
	HTTP1MaxPendingRequests *int32 `json:"http1MaxPendingRequests,omitempty"`

	// HTTP2MaxRequests is the number of active requests.
	// +optional
	HTTP2MaxRequests *int32 `json:"http2MaxRequests,omitempty"`

	// IdleTimeout of connections, as a duration such as 1h.
	// +optional
	IdleTimeout string `json:"idleTimeout,omitempty"`

	// MaxRequestsPerConnection is the number of requests per connection; 1 disables keep-alive.
	// +optional
	MaxRequestsPerConnection *int32 `json:"maxRequestsPerConnection,omitempty"`

	// MaxRetries is the number of retries outstanding at a time.
	// +optional
	MaxRetries *int32 `json:"maxRetries,omitempty"`
}

// LoadBalancerSettings chooses among endpoints; at most one of simple and consistentHash is set.
// +kubebuilder:validation:XValidation:rule="!(has(self.simple) && has(self.consistentHash))",message="set either simple or consistentHash, not both"
type LoadBalancerSettings struct {
	// Simple is a policy without parameters.
	// +kubebuilder:validation:Enum=ROUND_ROBIN;LEAST_CONN;RANDOM;PASSTHROUGH;LEAST_REQUEST
	// +optional
	Simple string `json:"simple,omitempty"`

	// ConsistentHash keeps requests with the same property on the same endpoint.
	// +optional
	ConsistentHash *ConsistentHashLB `json:"consistentHash,omitempty"`

	// LocalityLbSetting distributes traffic by locality.
	// +optional
	LocalityLbSetting *LocalityLbSetting `json:"localityLbSetting,omitempty"`

	// WarmupDurationSecs is how long a new endpoint gets less traffic, as a duration such as 30s.
	// +optional
	WarmupDurationSecs string `json:"warmupDurationSecs,omitempty"`
}

// ConsistentHashLB keeps requests with the same property on the same endpoint. At most one
// property is set.
// +kubebuilder:validation:XValidation:rule="[has(self.httpHeaderName), has(self.httpCookie), has(self.useSourceIp), has(self.httpQueryParameterName)].filter(x, x).size() <= 1",message="set only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"
type ConsistentHashLB struct {
	// HTTPHeaderName is the header to hash.
	// +optional
	HTTPHeaderName string `json:"httpHeaderName,omitempty"`

	// HTTPCookie is the cookie to hash; it is set where it is missing.
	// +optional
	HTTPCookie *HTTPCookie `json:"httpCookie,omitempty"`

	// UseSourceIP hashes the client's address.
	// +optional
	UseSourceIP bool `json:"useSourceIp,omitempty"`

	// HTTPQueryParameterName is the query parameter to hash.
	// +optional
	HTTPQueryParameterName string `json:"httpQueryParameterName,omitempty"`

	// MinimumRingSize is the least number of virtual nodes of the hash ring.
	// +optional
	MinimumRingSize *int32 `json:"minimumRingSize,omitempty"`
}

// HTTPCookie describes a cookie used as hash key.
type HTTPCookie struct {
	// Name of the cookie.
	// +optional
	Name string `json:"name,omitempty"`

	// Path of the cookie.
	// +optional
	Path string `json:"path,omitempty"`

	// TTL of the cookie, as a duration such as 0s.
	// +optional
	TTL string `json:"ttl,omitempty"`
}

// LocalityLbSetting distributes traffic by locality.
type LocalityLbSetting struct {
	// Distribute says how much traffic of a locality goes where.
	// +optional
	Distribute []LocalityLbDistribute `json:"distribute,omitempty"`

	// Failover says where the traffic of a region goes when it has no healthy endpoint.
	// +optional
	Failover []LocalityLbFailover `json:"failover,omitempty"`

	// Enabled overrides the mesh-wide setting.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
}

// LocalityLbDistribute says how much traffic of a locality goes where.
type LocalityLbDistribute struct {
	// From is the locality of the client, region/zone/sub-zone.
	// +optional
	From string `json:"from,omitempty"`

	// To maps localities to percentages.
	// +optional
	To map[string]int32 `json:"to,omitempty"`
}

// LocalityLbFailover says where the traffic of a region goes when it has no healthy endpoint.
type LocalityLbFailover struct {
	// From is the region that failed.
	// +optional
	From string `json:"from,omitempty"`

	// To is the region that takes over.
	// +optional
	To string `json:"to,omitempty"`
}

// OutlierDetection takes failing endpoints out for a while.
type OutlierDetection struct {
	// BaseEjectionTime is the least time an endpoint stays out, as a duration such as 30s.
	// +optional
	BaseEjectionTime string `json:"baseEjectionTime,omitempty"`

	// Consecutive5xxErrors is the number of 5xx answers in a row that takes an endpoint out.
	// +optional
	Consecutive5xxErrors *int32 `json:"consecutive5xxErrors,omitempty"`

	// ConsecutiveErrors is the old form of consecutiveGatewayErrors.
	// +optional
	ConsecutiveErrors *int32 `json:"consecutiveErrors,omitempty"`

	// ConsecutiveGatewayErrors is the number of 502, 503 and 504 answers in a row that takes an
	// endpoint out.
	// +optional
	ConsecutiveGatewayErrors *int32 `json:"consecutiveGatewayErrors,omitempty"`

	// ConsecutiveLocalOriginFailures is the number of failures to connect in a row that takes an
	// endpoint out.
	// +optional
	ConsecutiveLocalOriginFailures *int32 `json:"consecutiveLocalOriginFailures,omitempty"`

	// Interval between two checks, as a duration such as 10s.
	// +optional
	Interval string `json:"interval,omitempty"`

	// MaxEjectionPercent is the largest share of endpoints taken out.
	// +optional
	MaxEjectionPercent *int32 `json:"maxEjectionPercent,omitempty"`

	// MinHealthPercent is the share of healthy endpoints below which none is taken out.
	// +optional
	MinHealthPercent *int32 `json:"minHealthPercent,omitempty"`

	// SplitExternalLocalOriginErrors tells failures to connect from answers with errors.
	// +optional
	SplitExternalLocalOriginErrors *bool `json:"splitExternalLocalOriginErrors,omitempty"`
}

// TLSSettings are the TLS settings of connections to the endpoints.
type TLSSettings struct {
	// Mode says whether and how TLS is used.
	// +kubebuilder:validation:Enum=DISABLE;SIMPLE;MUTUAL;ISTIO_MUTUAL
	// +optional
	Mode string `json:"mode,omitempty"`

	// ClientCertificate is the file of the client's certificate.
	// +optional
	ClientCertificate string `json:"clientCertificate,omitempty"`

	// PrivateKey is the file of the client's key.
	// +optional
	PrivateKey string `json:"privateKey,omitempty"`

	// CACertificates is the file of the authorities that sign the server's certificate.
	// +optional
	CACertificates string `json:"caCertificates,omitempty"`

	// SNI is the server name sent.
	// +optional
	SNI string `json:"sni,omitempty"`

	// SubjectAltNames are the names the server's certificate may have.
	// +optional
	SubjectAltNames []string `json:"subjectAltNames,omitempty"`
}
