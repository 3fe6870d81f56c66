#![no_main]

countersign_fuzz::target!(targets::pe_parse);
