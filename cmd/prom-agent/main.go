// Command prom-agent discovers targets, scrapes them, keeps every scrape in a
// log on disk and forwards the log by remote write.
//
//	prom-agent --config.file=prometheus.yml     runs the agent, with Prometheus agent's flags
//	prom-agent check config FILE...             validates as the agent would
//	prom-agent wal inspect DIR                  what a data directory holds
//	prom-agent wal verify DIR                   whether all of it can be read
//	prom-agent receive                          a remote-write receiver that prints what it gets
//
// This package declares the flags and wires the stages together in the order
// in which a sample meets them; what a stage does is the stage's own business.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/util/documentcli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs the command that args name and returns the process's exit code:
// 0 done, 1 failed, 2 bad command line or config, 3 a flag that is not an agent's.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flags{log: promslog.Config{Writer: stderr}}
	app, run, checks := newApp(&f)
	app.Version(versionText())
	app.UsageWriter(stdout)

	check := app.Command("check", "Check files.")
	checkConfig := check.Command("config", "Validate config files as the agent would, and summarise them.")
	checkFiles := checkConfig.Arg("file", "Config file.").Required().Strings()
	checkFeatures := checkConfig.Flag("enable-feature", "Features that the agent runs with.").Strings()
	checkPortable := checkConfig.Flag("prometheus", "Fail, too, when a file has keys that Prometheus does not know, and name them.").Bool()
	checkSyntax := checkConfig.Flag("syntax-only", "Do not look at the files that a config names, such as certificates.").Bool()

	walCommand := app.Command("wal", "Look at a log.")
	inspect := walCommand.Command("inspect", "Print the segments, positions, samples and damage of a data directory's log. It may be in use.")
	inspectDir := inspect.Arg("dir", "The agent's --storage.agent.path.").Required().String()
	inspectDump := inspect.Flag("dump", "Print every sample as text.").Bool()
	verify := walCommand.Command("verify", "Read all of a data directory's log and name each damaged place, with what is lost by it. It may be in use. Exit code: 0 sound, 1 damaged, 2 not readable.")
	verifyDir := verify.Arg("dir", "The agent's --storage.agent.path.").Required().String()

	receiveCommand := app.Command("receive", "Receive remote write 1.x and 2.0, print rates, keep nothing.")
	receiveAddress := receiveCommand.Flag("listen-address", "Address to listen on.").Default("127.0.0.1:9201").String()
	receivePrint := receiveCommand.Flag("print", "Print every sample as text.").Bool()
	receiveEvery := model.Duration(time.Second)
	receiveCommand.Flag("interval", "Time between two lines of rates.").Default("1s").SetValue(&receiveEvery)

	parsed, err := app.ParseContext(args)
	var command string
	if parsed != nil && parsed.SelectedCommand != nil {
		command = parsed.SelectedCommand.FullCommand()
	}
	if err == nil && asksForHelpAlone(parsed, run, args) {
		app.Usage(nil)
		app.Usage([]string{run.FullCommand()}) // what happens without a command is what most look for
		return 0
	}
	if err == nil {
		_, err = app.Parse(args)
	}
	if err != nil {
		fmt.Fprintf(stderr, "Error parsing command line arguments: %s\n", nameFlag(parsed, err))
		if command == "" {
			command = run.FullCommand()
		}
		app.Usage(strings.Fields(command)) // not args: it would parse them again, and end the process with code 1
		return 2
	}

	switch command {
	case checkConfig.FullCommand():
		err = checkConfigs(stdout, *checkFiles, *checkFeatures, *checkSyntax, *checkPortable)
	case inspect.FullCommand():
		err = inspectLog(stdout, stderr, *inspectDir, *inspectDump)
	case verify.FullCommand():
		err = verifyLog(stdout, *verifyDir)
	case receiveCommand.FullCommand():
		if receiveEvery <= 0 {
			err = errors.New("--interval must be positive")
			break
		}
		err = receive(ctx, *receiveAddress, *receivePrint, time.Duration(receiveEvery), stdout)
	case run.FullCommand():
		if f.writeDocumentation {
			err = documentcli.GenerateMarkdown(app.Model(), stdout)
			break
		}
		err = runAgent(ctx, &f, parsed, app, run, checks)
	}
	var exit exitError
	switch {
	case errors.As(err, &exit):
		if exit.message != "" {
			fmt.Fprint(stderr, exit.message)
			if exit.code != 3 { // upstream's message for 3 ends without a newline
				fmt.Fprintln(stderr)
			}
		}
		return exit.code
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n", app.Name, err)
		return 1
	}
	return 0
}

// asksForHelpAlone says whether the user typed --help and no command: the
// parser then selects the default one by itself.
func asksForHelpAlone(parsed *kingpin.ParseContext, run *kingpin.CmdClause, args []string) bool {
	if parsed.SelectedCommand != run || slices.Contains(args, run.FullCommand()) {
		return false
	}
	return slices.ContainsFunc(parsed.Elements, func(e *kingpin.ParseElement) bool {
		flag, ok := e.Clause.(*kingpin.FlagClause)
		return ok && flag.Model().Name == "help"
	})
}

// nameFlag says which of the flags err is about: the parser's errors about
// values do not.
func nameFlag(parsed *kingpin.ParseContext, err error) error {
	if parsed == nil {
		return err
	}
	for _, e := range parsed.Elements {
		flag, ok := e.Clause.(*kingpin.FlagClause)
		if !ok || e.Value == nil {
			continue
		}
		m := flag.Model()
		if again := m.Value.Set(*e.Value); again != nil && again.Error() == err.Error() {
			return fmt.Errorf("--%s=%s: %w", m.Name, *e.Value, err)
		}
	}
	return err
}

// runAgent checks what the flags say and runs the agent until ctx ends.
func runAgent(ctx context.Context, f *flags, parsed *kingpin.ParseContext, app *kingpin.Application, run *kingpin.CmdClause, checks []func() error) error {
	if refused := f.note(parsed); len(refused) > 0 {
		return exitError{3, fmt.Sprintf("The following flag(s) can not be used in agent mode: %q", refused)}
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	f.show(app.Model(), run.Model())
	logger := promslog.New(&f.log)
	a, err := newAgent(f, logger)
	if err != nil {
		if errors.As(err, new(exitError)) {
			return err
		}
		return ended(logger, err)
	}
	if err := a.run(ctx); err != nil {
		return ended(logger, err)
	}
	return nil
}

// ended logs what has ended the agent, in Prometheus's words.
func ended(logger *slog.Logger, err error) error {
	line := "Fatal error"
	if f, ok := errors.AsType[fatal](err); ok {
		line = f.line
	}
	logger.Error(line, "err", err)
	return exitError{code: 1}
}
