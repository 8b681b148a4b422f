package loadtest

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/seed-0b620db0/patchbay/internal/load"
)

// summary is what a run ends with.
type summary struct {
	URL         string  `json:"url"`
	Transport   string  `json:"transport"`
	Mode        string  `json:"mode"`
	Clients     int     `json:"clients"`
	RampSeconds float64 `json:"rampSeconds"`
	Seconds     float64 `json:"seconds"` // of sending

	Connected int64 `json:"connected"` // that joined; those lost later are among them
	Failed    int64 `json:"failed"`    // that could not
	Lost      int64 `json:"lost"`
	Sent      int64 `json:"sent"`
	Received  int64 `json:"received"`
	Missing   int64 `json:"missing"` // deliveries and answers that should have come
	Errors    int64 `json:"errors"`  // refusals

	Connect  percentiles `json:"connectMs"`
	Delivery percentiles `json:"deliveryMs"`

	FirstError  string `json:"firstError,omitempty"`
	Interrupted bool   `json:"interrupted"`
	OK          bool   `json:"ok"`
}

// percentiles are in milliseconds.
type percentiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

func percentilesOf(h *load.Histogram) percentiles {
	at := func(q float64) float64 { return milliseconds(h.Quantile(q)) }
	return percentiles{at(0.5), at(0.9), at(0.99), at(0.999), milliseconds(h.Max())}
}

func (t *test) sum(ramped, sending time.Duration) *summary {
	s := &summary{
		URL: t.o.URL, Transport: string(t.o.Transport), Mode: t.o.mode, Clients: t.o.clients,
		RampSeconds: ramped.Seconds(), Seconds: sending.Seconds(),
		Connected: t.connected.Load(), Failed: t.failed.Load(), Lost: t.lost.Load(),
		Sent: t.sent.Load(), Received: t.received.Load(), Errors: t.refused.Load(),
		Connect: percentilesOf(&t.connects), Delivery: percentilesOf(&t.deliveries),
	}
	s.Missing = max(0, t.missing())
	if first := t.firstError.Load(); first != nil {
		s.FirstError = *first
	}
	s.OK = s.Connected > 0 && s.Failed == 0 && s.Lost == 0 && s.Errors == 0 && s.Missing == 0
	return s
}

func (s *summary) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	text := fmt.Sprintf("clients    %d connected of %d in %.1f s, %d failed, %d lost\n", s.Connected, s.Clients, s.RampSeconds, s.Failed, s.Lost)
	text += fmt.Sprintf("connect    %v\n", s.Connect)
	if s.Mode != modeIdle {
		text += fmt.Sprintf("sent       %d in %.1f s, %d refused\n", s.Sent, s.Seconds, s.Errors)
		text += fmt.Sprintf("received   %d, %d missing\n", s.Received, s.Missing)
		text += fmt.Sprintf("delivery   %v\n", s.Delivery)
	}
	if s.FirstError != "" {
		text += "first error: " + s.FirstError + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

func (p percentiles) String() string {
	return fmt.Sprintf("p50 %g ms  p90 %g ms  p99 %g ms  p99.9 %g ms  max %g ms", p.P50, p.P90, p.P99, p.P999, p.Max)
}

// report prints a line each second until stop is called.
func (t *test) report(w io.Writer) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var sent, received int64
		for second := 1; ; second++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			s, r := t.sent.Load(), t.received.Load()
			fmt.Fprintf(w, "%4ds  connected %d  failed %d  lost %d  sent %d/s  received %d/s  p50 %v  p99 %v\n", second,
				t.gen.Len(), t.failed.Load(), t.lost.Load(), s-sent, r-received,
				t.deliveries.Quantile(0.5).Round(time.Microsecond), t.deliveries.Quantile(0.99).Round(time.Microsecond))
			sent, received = s, r
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
