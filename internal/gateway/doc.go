// Package gateway is the program: configuration from the environment, the public and the internal listener, health,
// metrics, authentication, the relay, the playground, and an orderly end.
package gateway
