//! The journal as its users see it: real files, real kills, full disks.

mod damage;
mod kill;
mod readers;
mod room;
mod support;
