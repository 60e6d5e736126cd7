// The registry of the CNCF project Distribution, with the parts that the tests use. Its own command also has the storage
// drivers of three clouds, whose SDKs are three quarters of its build time.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"

	// The drivers and kinds of login that a configuration may name.
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/proxy"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
