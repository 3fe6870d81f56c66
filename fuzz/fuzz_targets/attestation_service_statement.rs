#![no_main]

countersign_fuzz::target!(attestation::attestation_service_statement);
