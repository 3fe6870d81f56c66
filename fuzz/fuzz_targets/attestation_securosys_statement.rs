#![no_main]

countersign_fuzz::target!(attestation::attestation_securosys_statement);
