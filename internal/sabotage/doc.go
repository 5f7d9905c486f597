// Command sabotage shows that the tests catch what would break complianced's promises. Each patch in testdata is a
// deliberate bug. Its head says in words what is wrong, which tests must fail, and what each of them then prints:
//
//	Bug: counts are increments, sent after the transaction
//	Test: ./store TestATransactionWhoseAnswerNeverCameHappensOnce
//	Says: counts
//
// The command applies one patch after the other by way of go build -overlay, so that no source file is touched, and
// runs these tests. A bug is caught where each of its tests passes without the patch, and with it fails and says so. A
// test that fails with another message, panics elsewhere or does not end in five minutes catches nothing. A patch that
// does not apply or does not build ends the command.
//
//	go run ./internal/sabotage [NAME …]
//
// It needs git, to apply the patches. The exit status is 1 where a bug was not caught.
package main
