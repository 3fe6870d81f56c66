//! PKCS#11 return values → what to do about them (OASIS PKCS#11 v3.x §5; any code may come from
//! any function, so what is not listed fails the request and drops the session).

use countersign_hsm_protocol::{ErrorClass, WorkerError};
use cryptoki::context::Function;
use cryptoki::error::{Error, RvError};

/// Turns a module's error into ours. `operation` is used where cryptoki names no function.
#[must_use]
pub fn module_error(error: &Error) -> WorkerError {
    match error {
        Error::Pkcs11(rv, function) => WorkerError::Module {
            class: classify(rv),
            function: format!("C_{function:?}"),
            code: code_name(rv),
            signature_possible: matches!(function, Function::Sign)
                && !matches!(
                    classify(rv),
                    ErrorClass::Caller
                        | ErrorClass::StaleHandle
                        | ErrorClass::SessionGone
                        | ErrorClass::LoginGone
                ),
        },
        other => WorkerError::Module {
            class: ErrorClass::Fatal,
            function: "cryptoki".to_owned(),
            code: other.to_string(),
            signature_possible: false,
        },
    }
}

/// The class of a return value.
#[must_use]
pub const fn classify(rv: &RvError) -> ErrorClass {
    use RvError as R;
    match rv {
        R::KeyHandleInvalid | R::ObjectHandleInvalid => ErrorClass::StaleHandle,
        R::SessionHandleInvalid
        | R::SessionClosed
        | R::OperationActive
        | R::OperationNotInitialized => ErrorClass::SessionGone,
        R::UserNotLoggedIn => ErrorClass::LoginGone,
        R::DeviceRemoved
        | R::TokenNotPresent
        | R::DeviceError
        | R::TokenNotRecognized
        | R::FunctionFailed => ErrorClass::DeviceGone,
        R::GeneralError
        | R::CryptokiNotInitialized
        | R::FipsSelfTestFailed
        | R::HostMemory
        | R::LibraryLoadFailed => ErrorClass::Fatal,
        R::SessionCount | R::DeviceMemory => ErrorClass::Capacity,
        R::PinIncorrect
        | R::PinInvalid
        | R::PinLocked
        | R::PinExpired
        | R::PinLenRange
        | R::UserPinNotInitialized
        | R::UserTooManyTypes
        | R::UserAnotherAlreadyLoggedIn
        // CKR_TOKEN_NOT_INITIALIZED (v3.2), not yet known to cryptoki.
        | R::UnknownErrorCode(0x208) => ErrorClass::NeverRetry,
        _ => ErrorClass::Caller,
    }
}

/// Whether an error of `C_Login` means the PIN itself is in question.
#[must_use]
pub const fn is_pin_trouble(error: &Error) -> bool {
    matches!(error, Error::Pkcs11(rv, _) if matches!(classify(rv), ErrorClass::NeverRetry))
}

/// `DeviceError` → `CKR_DEVICE_ERROR`.
fn code_name(rv: &RvError) -> String {
    match rv {
        RvError::VendorDefined(n) | RvError::UnknownErrorCode(n) => format!("0x{n:08x}"),
        known => {
            let mut out = String::from("CKR");
            for c in format!("{known:?}").chars() {
                if c.is_ascii_uppercase() {
                    out.push('_');
                }
                out.push(c.to_ascii_uppercase());
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_standard_names_and_classes() {
        let e = module_error(&Error::Pkcs11(RvError::DeviceError, Function::Sign));
        assert_eq!(
            e,
            WorkerError::Module {
                class: ErrorClass::DeviceGone,
                function: "C_Sign".into(),
                code: "CKR_DEVICE_ERROR".into(),
                signature_possible: true,
            }
        );
        assert_eq!(classify(&RvError::PinIncorrect), ErrorClass::NeverRetry);
        assert_eq!(classify(&RvError::UserNotLoggedIn), ErrorClass::LoginGone);
        assert_eq!(classify(&RvError::DataLenRange), ErrorClass::Caller);
        assert_eq!(
            classify(&RvError::UnknownErrorCode(0x208)),
            ErrorClass::NeverRetry
        );
    }

    #[test]
    fn a_failed_c_sign_init_leaves_no_signature() {
        let e = module_error(&Error::Pkcs11(RvError::DeviceError, Function::SignInit));
        assert!(matches!(
            e,
            WorkerError::Module {
                signature_possible: false,
                ..
            }
        ));
    }
}
