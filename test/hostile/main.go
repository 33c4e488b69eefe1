// Command hostile runs a part that misbehaves, to look at an agent beside it:
//
//	go run ./test/hostile target ADDRESS
//	go run ./test/hostile receiver ADDRESS MODE [ARGUMENT]
//	go run ./test/hostile apiserver ADDRESS MODE [N SIZE TO]
//	go run ./test/hostile slots ADDRESS MODE N
//
// The last one opens N connections to an agent's own server, which it holds:
// silent, partial (half a request), keepalive (after one) or noread (200
// requests whose answers it does not read).
package main

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"promagent/test/hostile/parts"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: hostile target|receiver|apiserver|slots ADDRESS [MODE ...]")
	}
	part, address := args[0], args[1]
	args = append(args[2:], "", "", "", "") // what is left out
	switch part {
	case "target":
		return http.ListenAndServe(address, parts.NewTarget())
	case "receiver":
		return http.ListenAndServe(address, parts.Receiver(args[0], args[1]))
	case "apiserver":
		n, err := strconv.Atoi(cmp.Or(args[1], "1000"))
		if err != nil {
			return err
		}
		size, err := strconv.Atoi(cmp.Or(args[2], "1000"))
		if err != nil {
			return err
		}
		return http.ListenAndServe(address, parts.APIServer(args[0], n, size, args[3]))
	case "slots":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		held, err := parts.Slots(address, args[0], n)
		if err != nil {
			return err
		}
		fmt.Printf("%d connections are open\n", len(held))
		for {
			fmt.Println(healthy(address))
			time.Sleep(5 * time.Second)
		}
	}
	return fmt.Errorf("unknown part %q", part)
}

// healthy says what a probe of the agent comes to.
func healthy(address string) string {
	client, begin := http.Client{Timeout: 5 * time.Second}, time.Now()
	resp, err := client.Get("http://" + address + "/-/healthy")
	if err != nil {
		return fmt.Sprint("/-/healthy: ", err)
	}
	defer resp.Body.Close()
	return fmt.Sprintf("/-/healthy: %s in %s", resp.Status, time.Since(begin).Round(time.Millisecond))
}
