package v1beta1

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateAnalysis(a *CanaryAnalysis, path *field.Path) field.ErrorList {
	errs := validateWeights(a, path)
	if err := durationError(path.Child("interval"), a.Interval); err != nil {
		errs = append(errs, err)
	}
	for i := range a.Metrics {
		errs = append(errs, validateMetric(&a.Metrics[i], path.Child("metrics").Index(i))...)
	}
	for i := range a.Alerts {
		errs = append(errs, validateAlert(&a.Alerts[i], path.Child("alerts").Index(i))...)
	}
	for i := range a.Webhooks {
		errs = append(errs, validateWebhook(&a.Webhooks[i], path.Child("webhooks").Index(i))...)
	}
	if a.Split != nil {
		errs = append(errs, validateSplit(a, path.Child("split"))...)
	}
	if a.SessionAffinity != nil {
		errs = append(errs, validateSessionAffinity(a.SessionAffinity, path.Child("sessionAffinity"))...)
	}
	return errs
}

func validateWeights(a *CanaryAnalysis, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var set []string
	if a.Iterations > 0 {
		set = append(set, "iterations")
	}
	if a.StepWeight > 0 {
		set = append(set, "stepWeight")
	}
	if len(a.StepWeights) > 0 {
		set = append(set, "stepWeights")
	}
	if len(set) > 1 {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("%s exclude each other: "+
			"keep iterations for blue/green and A/B, or stepWeight or stepWeights for a progressive canary", strings.Join(set, " and "))))
	}
	percents := []struct {
		name  string
		value int32
	}{
		{"mirrorWeight", a.MirrorWeight},
		{"maxWeight", a.MaxWeight},
		{"stepWeight", a.StepWeight},
		{"stepWeightPromotion", a.StepWeightPromotion},
		{"primaryReadyThreshold", valueOr(a.PrimaryReadyThreshold, DefaultReadyThreshold)},
		{"canaryReadyThreshold", valueOr(a.CanaryReadyThreshold, DefaultReadyThreshold)},
	}
	for _, percent := range percents {
		if percent.value < 0 || percent.value > 100 {
			errs = append(errs, field.Invalid(path.Child(percent.name), percent.value, "set a percentage from 0 to 100"))
		}
	}
	return append(errs, validateStepWeights(a.StepWeights, path.Child("stepWeights"))...)
}

// validateStepWeights finds steps that add no traffic; an analysis would stay there for ever.
// After the last weight was reached nothing is left to do, so it may be repeated.
func validateStepWeights(weights []int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, weight := range weights {
		if weight < 0 || weight > 100 {
			errs = append(errs, field.Invalid(path.Index(i), weight, "set a percentage from 0 to 100"))
		}
		if i == 0 || weight > weights[i-1] || (weight == weights[i-1] && weight == weights[len(weights)-1]) {
			continue
		}
		errs = append(errs, field.Invalid(path.Index(i), weight, fmt.Sprintf(
			"must be more than the weight before it, %d: make stepWeights ascending, for example [5, 20, 50]", weights[i-1])))
	}
	return errs
}

func validateMetric(m *CanaryMetric, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if err := durationError(path.Child("interval"), m.Interval); err != nil {
		errs = append(errs, err)
	}
	if m.Query == "" && m.TemplateRef == nil && !m.builtIn() {
		errs = append(errs, field.Required(path.Child("templateRef"), "no usable metrics template and query were configured: "+
			"name a MetricTemplate, or one of the built-in metrics request-success-rate and request-duration"))
	}
	if m.TemplateRef != nil && m.TemplateRef.Name == "" {
		errs = append(errs, field.Required(path.Child("templateRef", "name"), "name a MetricTemplate"))
	}
	return append(errs, validatePolicy(m, path)...)
}

func validateAlert(a *CanaryAlert, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	severities := []AlertSeverity{SeverityInfo, SeverityWarn, SeverityError}
	if !slices.Contains(severities, a.GetSeverity()) {
		errs = append(errs, field.NotSupported(path.Child("severity"), a.Severity, severities))
	}
	if a.ProviderRef.Name == "" {
		errs = append(errs, field.Required(path.Child("providerRef", "name"), "name an AlertProvider"))
	}
	return errs
}

func validateWebhook(w *CanaryWebhook, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	types := []HookType{
		ConfirmRolloutHook, PreRolloutHook, RolloutHook, ConfirmTrafficIncreaseHook,
		ConfirmPromotionHook, PostRolloutHook, RollbackHook, EventHook,
	}
	if !slices.Contains(types, w.GetType()) {
		errs = append(errs, field.NotSupported(path.Child("type"), w.Type, types))
	}
	if problem := urlProblem(w.URL); problem != "" {
		errs = append(errs, field.Invalid(path.Child("url"), field.OmitValueType{}, problem+", for example http://flagger-loadtester.test/"))
	}
	if err := durationError(path.Child("timeout"), w.Timeout); err != nil {
		errs = append(errs, err)
	}
	if w.Retries < 0 {
		errs = append(errs, field.Invalid(path.Child("retries"), w.Retries, "set the number of further attempts, 0 or more"))
	}
	return errs
}

// validateSessionAffinity checks the names of the cookies. The separators of a Cookie header
// (RFC 6265, section 4.1.1) in a name would let no request match.
func validateSessionAffinity(s *SessionAffinity, path *field.Path) field.ErrorList {
	if s.CookieName == s.PrimaryCookieName {
		return field.ErrorList{field.Invalid(path.Child("primaryCookieName"), s.PrimaryCookieName,
			"can't use the same cookie name for both primary and cookie name; please update them to be different")}
	}
	var errs field.ErrorList
	if s.CookieName == "" {
		errs = append(errs, field.Required(path.Child("cookieName"), "name the cookie of the canary"))
	}
	for _, cookie := range []struct{ field, name string }{
		{"cookieName", s.CookieName}, {"primaryCookieName", s.PrimaryCookieName},
	} {
		if strings.ContainsFunc(cookie.name, notOfToken) {
			errs = append(errs, field.Invalid(path.Child(cookie.field), cookie.name,
				"is no name of a cookie: use letters, digits, and - _ . of ASCII"))
		}
	}
	return errs
}

// notOfToken tells whether a character can't be part of a token (RFC 9110, section 5.6.2).
func notOfToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func durationError(path *field.Path, value string) *field.Error {
	if value == "" {
		return nil
	}
	duration, err := time.ParseDuration(value)
	if err == nil && duration >= 0 {
		return nil
	}
	return field.Invalid(path, value, "is no duration: write it like 30s, 1m30s or 1h")
}

// urlProblem says why an HTTP request can't be sent to the URL, empty if it can. It does not
// repeat the URL, which may hold a password, as the text goes into events.
func urlProblem(value string) string {
	parsed, err := url.Parse(value)
	switch {
	case err != nil:
		return "is no URL"
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return "must begin with http:// or https://"
	case parsed.Hostname() == "":
		return "must name a host"
	default:
		return ""
	}
}
