//! Labs on real frames. Everything here needs root; the limit on threads is the Makefile's.

mod support;

mod kernel_pair;
