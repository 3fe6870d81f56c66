//! What only PostgreSQL does: roles and settings it is opened with, the second wall, several
//! writers, a server that goes away.

mod away;
mod opening;
mod wall;
mod writers;
