//! The testbed is checked against programs that are not ours. They come from `make tools`.

mod cluster;
mod process;
mod serve;
mod standin;
mod upstream;
