package gateway

import "strings"

// gatewayNamespace is where the Gateways are. Each has the name of its data
// plane, and takes routes from all namespaces.
const gatewayNamespace = "default"

// gateway is the manifest of the Gateway of a data plane, empty if it has none.
func (k Kind) gateway() string {
	var controller, port string
	switch k {
	case GatewayAPI:
		controller, port = "projectcontour.io/gateway-controller", "80"
	case Traefik:
		// It listens where an entry point of that port is.
		controller, port = "traefik.io/gateway-controller", "81"
	default:
		return ""
	}
	return strings.NewReplacer("NAME", string(k), "CONTROLLER", controller, "PORT", port).Replace(`apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: NAME}
spec: {controllerName: CONTROLLER}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: NAME}
spec:
  gatewayClassName: NAME
  listeners:
  - name: http
    protocol: HTTP
    port: PORT
    allowedRoutes: {namespaces: {from: All}}
`)
}
