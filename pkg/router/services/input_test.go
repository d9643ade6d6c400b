package services_test

import (
	"reflect"
	"testing"

	"flagger.app/flagger/pkg/router/services"
)

// Inputs that differ in any field, also in one that is added later, are not equal.
func TestInputsDifferByEachField(t *testing.T) {
	fields := reflect.TypeFor[services.Input]()
	for i := range fields.NumField() {
		t.Run(fields.Field(i).Name, func(t *testing.T) {
			var in, other services.Input
			field := reflect.ValueOf(&other).Elem().Field(i)
			switch field.Kind() {
			case reflect.String:
				field.SetString("x")
			case reflect.Map:
				field.Set(reflect.MakeMap(field.Type()))
				field.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf("value"))
				var known services.Input
				reflect.ValueOf(&known).Elem().Field(i).Set(reflect.MakeMap(field.Type()))
				if in.Equal(&known) {
					t.Error("no labels are taken for those that are not known")
				}
			case reflect.Slice:
				field.Set(reflect.MakeSlice(field.Type(), 1, 1))
			case reflect.Struct:
				field.Field(0).SetString("x")
			default:
				t.Fatalf("a field of kind %s has to be compared and tested", field.Kind())
			}
			if in.Equal(&other) || other.Equal(&in) || !other.Equal(&other) {
				t.Error("the field makes no difference")
			}
		})
	}
}
