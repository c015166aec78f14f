//! The SQLite store from outside: what goes in, what comes back, and what happens when the disk or the process does not.

mod backup;
mod child;
mod crash;
mod damage;
mod faults;
mod keeping;
mod million;
mod model;
mod pages;
mod place;
mod power;
mod script;
