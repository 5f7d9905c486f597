// Package examples has agents in several languages in its folders. Its tests run
// each of them against a real nats-server.
package examples
