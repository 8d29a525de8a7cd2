// ociarchive packs a file tree into a one-layer OCI image archive, and tells which images an archive holds.
//
//	ociarchive pack -name NAME -out FILE (-root DIR | -layer TAR) [-entrypoint ARG]... [-cmd ARG]... [-env K=V]... [-workdir DIR] [-user USER]
//	ociarchive inspect FILE...
//
// The same input gives the same bytes: no time stamps, sorted entries.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ociarchive:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "pack":
			return packCommand(args[1:])
		case "inspect":
			return inspectCommand(args[1:], os.Stdout)
		}
	}
	return fmt.Errorf("usage: ociarchive pack -name NAME -out FILE (-root DIR | -layer TAR) [-entrypoint ARG]... | ociarchive inspect FILE...")
}
