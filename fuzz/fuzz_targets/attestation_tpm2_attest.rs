#![no_main]

countersign_fuzz::target!(attestation::attestation_tpm2_attest);
