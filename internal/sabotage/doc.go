// Command sabotage shows that the tests catch what would break complianced's promises. Each patch in testdata is a
// deliberate bug: its head says in words what is wrong and which tests must fail. The command applies one patch
// after the other by way of go build -overlay, so that no source file is touched, and runs these tests: a bug that
// builds and whose tests all fail is caught. The same tests must pass without the patch.
//
//	go run ./internal/sabotage [NAME …]
//
// It needs git, to apply the patches. The exit status is 1 where a bug was not caught.
package main
