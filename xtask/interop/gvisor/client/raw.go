package main

import (
	"gvisor.dev/gvisor/pkg/lisafs"
)

// raw sends a message with any payload, past what the client would make of its arguments. The
// answer's payload is copied.
func (r *run) raw(message lisafs.MID, payload []byte) ([]byte, error) {
	var answer []byte
	text := func() string { return "raw" }
	err := r.client.SndRcvMessage(message, uint32(len(payload)),
		func(buffer []byte) []byte {
			copy(buffer, payload)
			return buffer[len(payload):]
		},
		func(buffer []byte) ([]byte, bool) {
			answer = append(answer, buffer...)
			return nil, true
		},
		nil, text, text)
	return answer, err
}
