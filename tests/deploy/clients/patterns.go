// Reads lines of JSON with a pattern and a text, and writes whether Go's regexp finds it there.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
)

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var question struct{ Pattern, Text string }
		if err := json.Unmarshal(line, &question); err != nil {
			panic(err)
		}
		fmt.Println(regexp.MustCompile(question.Pattern).MatchString(question.Text))
	}
}
