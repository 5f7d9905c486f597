// Package rig runs a deployment of complianced as real processes on loopback, for heal tests and benchmarks:
// nats-server, redis-server and complianced, each with a folder of its own that outlives its process.
//
// Every process listens on a port of its own on 127.0.0.1 that stays the same over restarts. It is none of those that
// the kernel gives to connections, which could take it while its process is down. A process is killed, stopped and
// measured by its process id. [Process.CPU] and [Process.PeakMemory] read /proc, so they need Linux.
//
// redis-server is the one in PATH; nats-server is built from the module that internal/tools/go.mod names, and
// complianced from this repository.
package rig
