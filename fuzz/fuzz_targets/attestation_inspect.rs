#![no_main]

countersign_fuzz::target!(attestation::attestation_inspect);
