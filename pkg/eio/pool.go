package eio

import "sync"

// pool is a sync.Pool of values of one type.
type pool[T any] struct{ p sync.Pool }

func newPool[T any](fresh func() T) *pool[T] {
	return &pool[T]{sync.Pool{New: func() any { return fresh() }}}
}

func (p *pool[T]) get() T {
	v, ok := p.p.Get().(T)
	if !ok {
		panic("eio: foreign value in the pool")
	}
	return v
}

func (p *pool[T]) put(v T) { p.p.Put(v) }
