// Prints what github.com/Masterminds/semver/v3 says about many versions and constraints: the ground truth that the tests
// of src/selection compare with. Regenerate it after raising the module's version:
//
//	go -C tools/semver-table run . >src/selection/testdata/masterminds.tsv
//
// The output is the same on every run: the generated constraints come from a seeded generator.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

const module = "github.com/Masterminds/semver/v3"

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()

	versions, invalid := parse(versionTexts())
	constraints := unique(append(curated(), append(systematic(), random(3500)...)...))

	fmt.Fprintf(out, "# What %s %s says. Regenerate: go -C tools/semver-table run . >src/selection/testdata/masterminds.tsv\n", module, moduleVersion())
	fmt.Fprintf(out, "# version\ttext\tloose or strict\trank (equal versions share it)\n")
	rank := -1
	for i, v := range versions {
		if i == 0 || versions[i-1].Compare(v) != 0 {
			rank++
		}
		kind := "loose"
		if _, err := semver.StrictNewVersion(v.Original()); err == nil {
			kind = "strict"
		}
		fmt.Fprintf(out, "version\t%s\t%s\t%d\n", quote(v.Original()), kind, rank)
	}
	fmt.Fprintf(out, "# invalid-version\ttext\n")
	for _, text := range invalid {
		fmt.Fprintf(out, "invalid-version\t%s\n", quote(text))
	}
	fmt.Fprintf(out, "# constraint\ttext\tvalid or invalid\tmatching versions by their place above, from 0\n")
	for _, text := range constraints {
		c, err := semver.NewConstraint(text)
		if err != nil {
			fmt.Fprintf(out, "constraint\t%s\tinvalid\t\n", quote(text))
			continue
		}
		var places []int
		for i, v := range versions {
			if c.Check(v) {
				places = append(places, i)
			}
		}
		fmt.Fprintf(out, "constraint\t%s\tvalid\t%s\n", quote(text), runs(places))
	}
}

func moduleVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return "of unknown version"
}

// quote is JSON: constraints hold tabs and line ends.
func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text)
	return strings.TrimSuffix(b.String(), "\n")
}

// runs writes 1 2 3 7 as 1-3,7.
func runs(places []int) string {
	var parts []string
	for i := 0; i < len(places); {
		j := i
		for j+1 < len(places) && places[j+1] == places[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(places[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", places[i], places[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

func unique(texts []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, text := range texts {
		if !seen[text] {
			seen[text] = true
			kept = append(kept, text)
		}
	}
	return kept
}

// parse sorts the valid versions, oldest first.
func parse(texts []string) (valid []*semver.Version, invalid []string) {
	for _, text := range unique(texts) {
		if v, err := semver.NewVersion(text); err == nil {
			valid = append(valid, v)
		} else {
			invalid = append(invalid, text)
		}
	}
	slices.SortStableFunc(valid, func(a, b *semver.Version) int { return a.Compare(b) })
	return valid, invalid
}
