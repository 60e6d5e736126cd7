//! Settings, resource tags and policies of a repository, with the real API server and the stand-in.

mod appliers;
mod crowd;
mod defaults;
mod drift;
mod mistakes;
mod restart;
mod settings;
