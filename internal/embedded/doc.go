// Package embedded runs the servers that complianced needs beside itself where the operator names none: a
// nats-server with JetStream inside this process, and a Redis as a child process or, without one, in memory.
//
// # Lifecycle
//
// A server of this package must answer before the rest of the program can start, so each has a Start function
// that returns when the server is ready, and a Close method that returns when it is gone. Close may be called
// more than once and from several goroutines. The context of a Start function bounds the start only.
//
// # What is kept
//
// NATS: a report whose PubAck was sent survives every end of this process, SIGKILL included, because it was
// handed to the kernel before. It is forced to disk within [NATSOptions].SyncInterval (one second), so a power
// cut or a kernel crash can lose accepted reports of that last second. Where that is too much, name a NATS of
// several servers.
//
// Redis: the append-only file is forced to disk once a second. What a power cut takes from it is read from the
// stream again, because a bucket's floor is lost together with its records.
//
// The stand-in keeps nothing: its state ends with the process and is rebuilt from the stream at the next start.
//
// # Who may reach them
//
// The Redis child listens on a Unix socket of this user only and on no port. The stand-in listens on loopback
// and asks for a password that is new at each start. The nats-server listens on loopback unless told otherwise
// and knows no users: whoever reaches its address can publish reports.
//
// # The child process
//
// On Linux the kernel ends the Redis child when this process dies, however it dies. Elsewhere a child outlives
// a parent that was killed with SIGKILL. Everywhere a new child waits until an earlier one on the same folder
// has ended, for up to 15 s, so that two never write to one append-only file. A child that dies by itself is not
// started again: [Redis].Done tells it. The child has a process group of its own: Ctrl-C
// in a terminal reaches this process only, which closes the child last. A service manager should do likewise
// (systemd: KillMode=mixed).
package embedded
