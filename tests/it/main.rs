//! Integration tests with real programs: etcd and kube-apiserver, the distribution registry, crane,
//! regctl, oras, the AWS CLI, and the ECR stand-in. One binary, because linking is most of the
//! build time.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod adoption;
mod api_server;
mod audit;
mod aws_chain;
mod begin;
mod behaviour;
mod budget;
mod chart;
mod charts;
mod command_line;
mod command_line_convert;
mod command_line_examples;
mod command_line_flags;
mod command_line_input;
mod command_line_terminal;
mod completions;
mod configuration;
mod controller;
mod copy;
mod copy_cases;
mod deletion;
mod deploy;
mod docs;
mod ecr_sources;
mod egress;
mod failures;
mod faults;
mod gitops;
mod helm_push;
mod identity;
mod install;
mod kills;
mod kubectl;
mod large_copies;
mod leader;
mod lifecycle;
mod memory;
mod metrics;
mod mirrors;
mod monitoring;
mod moto;
mod no_identity;
mod ownership;
mod parts;
mod permissions;
mod pruning;
mod queue;
mod rate_limits;
mod readers;
mod recovery;
mod rights;
mod schema;
mod selection;
mod shards;
mod soak;
mod style;
mod support;
mod tenancy;
mod tools_build;
mod trace_log;
mod trust;
mod undecodable;
