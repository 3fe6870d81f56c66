//! End-to-end tests live in `it/`: one file per behaviour or fault, each against whole processes
//! and real judges. This library is empty on purpose.
