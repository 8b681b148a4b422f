// Package peers lets nodes find each other, and pass on requests that belong to another one.
//
// # Use
//
// Nodes enter their tag and address into a [Registry]; a [Directory] keeps this node there and knows the others. A
// [Forwarder] stands in front of a node's Engine.IO server twice: on the public listener it passes requests on whose session
// is on another node, on the internal listener it takes those that others pass on.
//
// # Trust
//
// A forwarded request is signed with a secret that all nodes share, and comes from a node that is registered, once, at about
// the time that it says. Only then its client address is believed. It is never forwarded again. The way between nodes is
// plain HTTP: the internal listener belongs on an internal network.
//
// # Concurrency
//
// All functions may be called from any goroutine.
//
// # Limits
//
// What is not to be had at once is answered as if nobody had the session, and the client makes a new one. Unknown tags cost
// one look into the registry each [DirectoryOptions.Pause], however many there are.
package peers
