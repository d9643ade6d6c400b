package router

// Remembered counts the answers that an Applier holds.
func Remembered(a *Applier) int {
	a.answers.mu.Lock()
	defer a.answers.mu.Unlock()
	return len(a.answers.byRef)
}
