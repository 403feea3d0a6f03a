//! Who sends what, what comes out where, what is dropped why.

mod gateway;
mod same_node;
