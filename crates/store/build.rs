//! `sqlx::migrate!` embeds files that cargo does not know of: tell it, else a new migration would
//! not be compiled in.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
