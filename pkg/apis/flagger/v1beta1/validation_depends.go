package v1beta1

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateDependsOn checks what one Canary alone can say of its order. A cycle takes several.
func validateDependsOn(c *Canary, spec *field.Path) field.ErrorList {
	d, path := c.Spec.DependsOn, spec.Child("dependsOn")
	if d == nil {
		return nil
	}
	var errs field.ErrorList
	if len(d.Canaries) == 0 {
		errs = append(errs, field.Required(path.Child("canaries"), "name the Canaries whose changes come first, or remove dependsOn"))
	}
	for i, ref := range d.Canaries {
		if ref.Name == "" {
			errs = append(errs, field.Required(path.Child("canaries").Index(i).Child("name"), "name a Canary"))
		}
	}
	for name, value := range map[string]string{"delay": d.Delay, "deadline": d.Deadline} {
		if _, err := time.ParseDuration(value); value != "" && err != nil {
			errs = append(errs, field.Invalid(path.Child(name), value, "is no duration: set one like 30s, 5m or 1h"))
		}
	}
	if at := d.AtDeadline; at != "" && at != AtDeadlineFail && at != AtDeadlineBegin {
		errs = append(errs, field.NotSupported(path.Child("atDeadline"), at, []string{AtDeadlineBegin, AtDeadlineFail}))
	}
	return errs
}
