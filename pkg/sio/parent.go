package sio

import (
	"context"
	"encoding/json"
	"regexp"
)

// ParentNamespace stands for namespaces that are made when a client asks for them. Each gets its handlers as they are at
// that moment.
type ParentNamespace struct {
	*Handlers

	// set at construction
	srv    *Server
	match  func(ctx context.Context, name string, auth json.RawMessage) (bool, error)
	regexp *regexp.Regexp // if match is one
}

// OfRegexp returns the parent of all namespaces whose names re matches. The whole name is not implied: use ^ and $.
func (srv *Server) OfRegexp(re *regexp.Regexp) *ParentNamespace {
	p := srv.OfFunc(func(_ context.Context, name string, _ json.RawMessage) (bool, error) {
		return re.MatchString(name), nil
	})
	p.regexp = re
	return p
}

// OfFunc returns the parent of the namespaces that match admits; names are of at most 1024 bytes. It is given the name and what the client gave as auth, and
// asked after the parents that were made before it; an error counts as no.
func (srv *Server) OfFunc(match func(ctx context.Context, name string, auth json.RawMessage) (bool, error)) *ParentNamespace {
	p := &ParentNamespace{Handlers: newHandlers(nil), srv: srv, match: match}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.parents = append(srv.parents, p)
	return p
}

// children returns the namespaces there are.
func (p *ParentNamespace) children() []*Namespace {
	p.srv.mu.Lock()
	defer p.srv.mu.Unlock()
	var out []*Namespace
	for _, ns := range p.srv.namespaces {
		if ns.parent == p {
			out = append(out, ns)
		}
	}
	return out
}

func (p *ParentNamespace) all() Broadcast { return Broadcast{parent: p} }

// To selects the sockets of rooms, in each namespace of the parent that exists on this node.
func (p *ParentNamespace) To(rooms ...string) Broadcast { return p.all().To(rooms...) }

// Except selects all sockets but those of rooms, in each namespace of the parent that exists on this node.
func (p *ParentNamespace) Except(rooms ...string) Broadcast { return p.all().Except(rooms...) }

// Local selects the sockets of this node.
func (p *ParentNamespace) Local() Broadcast { return p.all().Local() }

// Volatile is [Broadcast.Volatile] for all sockets.
func (p *ParentNamespace) Volatile() Broadcast { return p.all().Volatile() }

// Emit sends an event to all sockets of each namespace of the parent that exists on this node.
func (p *ParentNamespace) Emit(ctx context.Context, event string, args ...any) error {
	return p.all().Emit(ctx, event, args...)
}
