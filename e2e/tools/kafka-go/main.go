// Drives segmentio/kafka-go for the end-to-end tests: `member key=value...` is one member of a group,
// `serve` carries out the requests it reads from stdin.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

type fields map[string]any

var output sync.Mutex

// say prints one event as a line of JSON.
func say(event string, more fields) {
	output.Lock()
	defer output.Unlock()
	line := fields{"at": time.Now().UnixMicro(), "event": event}
	for name, value := range more {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func main() {
	options := map[string]string{}
	for _, word := range os.Args[2:] {
		name, value, _ := strings.Cut(word, "=")
		options[name] = value
	}
	var err error
	switch os.Args[1] {
	case "member":
		err = member(options)
	case "serve":
		err = serve(os.Stdin)
	default:
		err = fmt.Errorf("unknown mode %q", os.Args[1])
	}
	if err != nil {
		say("failed", fields{"message": err.Error()})
		os.Exit(1)
	}
}
