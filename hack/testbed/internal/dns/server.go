package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// byService indexes EndpointSlices by namespace and Service.
const byService = "service"

// Run answers questions for the cluster domain on port 53 of listenIP, UDP and
// TCP, until ctx ends. Names outside the cluster do not exist here. log may be
// nil.
func Run(ctx context.Context, factory informers.SharedInformerFactory, listenIP string, log *slog.Logger) error {
	if log == nil {
		log = slog.Default()
	}
	src, err := newClusterSource(factory)
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	// Before that, names that exist would be denied.
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch %s: the cache did not fill", kind)
		}
	}
	sockets, err := listen(net.JoinHostPort(listenIP, "53"))
	if err != nil {
		return err
	}
	return sockets.serve(ctx, handler{src: src, log: log})
}

// sockets are where questions come in.
type sockets struct {
	packets  net.PacketConn
	listener net.Listener
}

func listen(address string) (*sockets, error) {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("cluster DNS: %w", err)
	}
	packets, err := net.ListenPacket("udp4", listener.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cluster DNS: %w", err), listener.Close())
	}
	return &sockets{packets, listener}, nil
}

// serve answers until ctx ends or one of the transports fails.
func (s *sockets) serve(ctx context.Context, h dns.Handler) error {
	servers := []*dns.Server{{PacketConn: s.packets, Handler: h}, {Listener: s.listener, Handler: h}}
	failed := make(chan error, len(servers))
	for _, server := range servers {
		go func() { failed <- server.ActivateAndServe() }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("cluster DNS: %w", err)
	}
	// Not Server.Shutdown, which fails for a server that is not up yet.
	return errors.Join(err, s.packets.Close(), s.listener.Close())
}

type handler struct {
	src source
	log *slog.Logger
}

// ServeDNS answers one message.
func (h handler) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := h.reply(request)
	if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP {
		size := dns.MinMsgSize
		if opt := request.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		reply.Truncate(size)
	}
	if err := w.WriteMsg(reply); err != nil {
		h.log.Debug("DNS answer not delivered", "err", err)
	}
}

func (h handler) reply(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	if request.Opcode != dns.OpcodeQuery || len(request.Question) != 1 {
		return reply.SetRcode(request, dns.RcodeNotImplemented)
	}
	reply.SetReply(request)
	reply.Authoritative, reply.RecursionAvailable = true, true
	question := request.Question[0]
	result := lookup(h.src, question.Name, question.Qtype)
	reply.Rcode, reply.Answer, reply.Extra = result.rcode, result.records, result.extra
	// Clients often take the first address.
	rand.Shuffle(len(reply.Answer), func(i, j int) {
		if reply.Answer[i].Header().Rrtype == reply.Answer[j].Header().Rrtype {
			reply.Answer[i], reply.Answer[j] = reply.Answer[j], reply.Answer[i]
		}
	})
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{soa()}
	}
	if opt := request.IsEdns0(); opt != nil {
		reply.SetEdns0(opt.UDPSize(), false)
	}
	return reply
}

// soa says for how long the absence of a name may be remembered.
func soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + domain, Mbox: "hostmaster." + domain,
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

// clusterSource reads from informers.
type clusterSource struct {
	services corev1listers.ServiceLister
	byName   cache.Indexer
	slices   cache.Indexer
}

func newClusterSource(factory informers.SharedInformerFactory) (*clusterSource, error) {
	services := factory.Core().V1().Services()
	slices := factory.Discovery().V1().EndpointSlices()
	err := slices.Informer().AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return nil, fmt.Errorf("%T is no EndpointSlice", obj)
		}
		return []string{slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices: %w", err)
	}
	return &clusterSource{
		services: services.Lister(), byName: services.Informer().GetIndexer(), slices: slices.Informer().GetIndexer(),
	}, nil
}

func (s *clusterSource) Service(namespace, name string) *corev1.Service {
	// The lister knows one error only, not found.
	svc, err := s.services.Services(namespace).Get(name)
	if err != nil {
		return nil
	}
	return svc
}

func (s *clusterSource) EndpointSlices(namespace, service string) []*discoveryv1.EndpointSlice {
	objects, err := s.slices.ByIndex(byService, namespace+"/"+service)
	if err != nil {
		return nil
	}
	out := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, object := range objects {
		out = append(out, object.(*discoveryv1.EndpointSlice))
	}
	return out
}

func (s *clusterSource) Namespace(name string) bool {
	keys, err := s.byName.IndexKeys(cache.NamespaceIndex, name)
	return err == nil && len(keys) > 0
}
