// Command oracle says what kube-proxy makes of Services, EndpointSlices and its Node, with kube-proxy's own code.
//
// Every line of standard input is a JSON array of cases; a case is an array of Kubernetes objects, of which the first
// Node is the proxy's own. Every line of standard output is the array of answers, see answer.go. IPv4 only: kube-proxy
// runs an independent proxier for each family.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

func main() {
	// kube-proxy logs every object it skips.
	klog.SetLogger(logr.Discard())
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

// serve answers a whole line at once, so that neither side waits for the other with a full pipe.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var cases [][]json.RawMessage
		if err := json.Unmarshal(line, &cases); err != nil {
			return fmt.Errorf("input: %w", err)
		}
		answers := make([]Answer, 0, len(cases))
		for _, objects := range cases {
			answer, err := answerCase(objects)
			if err != nil {
				return err
			}
			answers = append(answers, answer)
		}
		text, err := json.Marshal(answers)
		if err != nil {
			return err
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
}
