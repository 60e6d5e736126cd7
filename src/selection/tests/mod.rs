mod masterminds;
mod properties;
