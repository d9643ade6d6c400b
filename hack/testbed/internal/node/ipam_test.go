package node

import "testing"

func TestAddressPool(t *testing.T) {
	pool, err := newAddressPool("10.244.3.0/29")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	take := func() {
		ip, err := pool.take()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.String())
	}
	take()
	take()
	first := pool.prefix.Addr().Next().Next()
	pool.release(first)
	for range 4 {
		take()
	}
	want := []string{"10.244.3.2", "10.244.3.3", "10.244.3.4", "10.244.3.5", "10.244.3.6", "10.244.3.2"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("addresses %v, want %v: the one given back comes last", got, want)
		}
	}
	if ip, err := pool.take(); err == nil {
		t.Errorf("a full pool gave %s", ip)
	}
	for _, cidr := range []string{"nonsense", "fd00::/64", "10.0.0.0/31"} {
		if _, err := newAddressPool(cidr); err == nil {
			t.Errorf("range %s is accepted", cidr)
		}
	}
}
