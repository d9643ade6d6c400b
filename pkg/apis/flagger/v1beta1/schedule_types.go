package v1beta1

// What becomes of a rollout under way outside of its schedule.
const (
	UnderWayContinue = "Continue"
	UnderWayHold     = "Hold"
)

// RolloutSchedule says when rollouts may begin.
type RolloutSchedule struct {
	// Windows of the week in which a rollout may begin, as days and times: Mon-Thu 09:00-16:30,
	// Sat,Sun for whole days, 22:00-04:00 for every day. Default: at any time.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^(((Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?,?)+ *)?(([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00))?$`
	// +kubebuilder:validation:items:MinLength=1
	// +listType=atomic
	// +optional
	Windows []string `json:"windows,omitempty"`

	// Freezes are dates or times between which none begins, whatever the windows: 2026-12-24,
	// 2026-12-19/2027-01-03 for the first and the last day, 2026-12-19T18:00/2027-01-04T08:00.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?(/[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2})?)?$`
	// +listType=atomic
	// +optional
	Freezes []string `json:"freezes,omitempty"`

	// TimeZone of both, as the IANA database names it, for example Europe/Berlin. Default UTC.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// UnderWay is what becomes of a rollout that began before. Continue: it goes on. Hold: it takes
	// no step and is not promoted until the next window, but is checked, and taken back if it fails.
	// Default Continue.
	// +kubebuilder:validation:Enum=Continue;Hold
	// +optional
	UnderWay string `json:"underWay,omitempty"`
}
