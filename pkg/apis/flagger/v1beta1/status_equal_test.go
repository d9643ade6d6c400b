package v1beta1

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"
)

// TestStatusIsStoredAsItIsReadBack compares a status that was never read back with one that went through JSON.
func TestStatusIsStoredAsItIsReadBack(t *testing.T) {
	for seed := range int64(500) {
		s := randomStatus(seed, 0.4)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		want := &CanaryStatus{}
		if err := json.Unmarshal(data, want); err != nil {
			t.Fatal(err)
		}
		if got := s.Stored(); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %s,\nread back is %s", seed, asJSON(got), asJSON(want))
		}
	}
}

// TestEqualStatusesAreEqualInEachField changes each value of a status that has all of them, one by one.
func TestEqualStatusesAreEqualInEachField(t *testing.T) {
	changed := 0
	s := randomStatus(1, 0)
	for i := 0; ; i++ {
		other := s.DeepCopy()
		left := i
		field := change("status", reflect.ValueOf(other).Elem(), &left)
		if field == "" {
			break
		}
		changed++
		if s.Equal(other) || other.Equal(s) {
			t.Errorf("two statuses are called equal that differ in %s", field)
		}
	}
	if changed < 100 {
		t.Errorf("only %d values were changed", changed)
	}
}

func TestStatusEqualsItsCopy(t *testing.T) {
	for seed := range int64(500) {
		a, b := randomStatus(seed, 0.4), randomStatus(seed+1, 0.4)
		for _, o := range []*CanaryStatus{a.DeepCopy(), a.Stored(), b, b.Stored()} {
			if got, want := a.Equal(o), equality.Semantic.DeepEqual(a, o); got != want {
				t.Fatalf("seed %d: got %t, want %t: %s\n%s", seed, got, want, asJSON(a), asJSON(o))
			}
		}
	}
}

func asJSON(s *CanaryStatus) string {
	data, err := json.Marshal(s)
	return fmt.Sprintf("%s %v", data, err)
}

func randomStatus(seed int64, nils float64) *CanaryStatus {
	s := &CanaryStatus{}
	// Lists are empty at times, and times have nanoseconds, or are zero.
	at := func(c randfill.Continue) time.Time {
		if nils > 0 && c.Float64() < 0.2 {
			return time.Time{}
		}
		return time.Unix(c.Int63()%4e9, c.Int63()%1e9)
	}
	least := 0
	if nils == 0 {
		least = 1
	}
	randfill.NewWithSeed(seed).NilChance(nils).NumElements(least, 2).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.NewTime(at(c)) },
		func(t *metav1.MicroTime, c randfill.Continue) { *t = metav1.NewMicroTime(at(c)) },
		func(text *string, c randfill.Continue) { *text = fmt.Sprint(c.Int31()) },
	).Fill(s)
	return s
}

// change changes the value that so many others are before, and names it. It returns nothing if there are not that many.
func change(name string, v reflect.Value, left *int) string {
	do := func(change func()) string {
		if *left--; *left >= 0 {
			return ""
		}
		change()
		return name
	}
	inner := ""
	switch t := v.Addr().Interface().(type) {
	case *metav1.Time:
		return do(func() { *t = metav1.NewTime(t.Add(time.Second)) })
	case *metav1.MicroTime:
		return do(func() { *t = metav1.NewMicroTime(t.Add(time.Second)) })
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := 0; i < v.NumField() && inner == ""; i++ {
			inner = change(name+"."+v.Type().Field(i).Name, v.Field(i), left)
		}
		return inner
	case reflect.Pointer:
		if inner = do(func() { v.SetZero() }); inner == "" {
			inner = change(name, v.Elem(), left)
		}
		return inner
	case reflect.Slice:
		if inner = do(func() { v.SetLen(v.Len() - 1) }); inner == "" {
			inner = change(name+"[0]", v.Index(0), left)
		}
		return inner
	case reflect.Map:
		return do(func() { v.SetMapIndex(v.MapKeys()[0], reflect.ValueOf("another")) })
	case reflect.String:
		return do(func() { v.SetString(v.String() + "x") })
	case reflect.Bool:
		return do(func() { v.SetBool(!v.Bool()) })
	default:
		return do(func() { v.SetInt(v.Int() + 1) })
	}
}
