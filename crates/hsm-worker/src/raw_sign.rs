//! `C_SignInit` and `C_Sign` into a buffer of our own: two calls instead of cryptoki's three, which
//! asks for the length first. Worth 5 to 8 % with P-256 on SoftHSM. The only `unsafe` of the worker.
#![allow(unsafe_code)]

use cryptoki::context::Function;
use cryptoki::error::{Error, Rv};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki_sys::{CK_BYTE, CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_ULONG};
use std::path::Path;

/// Longest signature of an algorithm we offer: RSA-4096. Twice that, for room.
const MAX_SIGNATURE: usize = 1024;

type SignFn = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    *mut CK_ULONG,
) -> CK_RV;

/// The module's `C_Sign`.
pub struct RawSign {
    c_sign: SignFn,
    // Keeps the shared library loaded, so that `c_sign` stays valid.
    _library: cryptoki_sys::Pkcs11,
}

impl RawSign {
    /// Finds `C_Sign` of a module that cryptoki has loaded already.
    ///
    /// # Errors
    /// As cryptoki's own loading.
    pub fn of_module(path: &Path) -> Result<Self, Error> {
        // SAFETY: `dlopen` of a path that this process has loaded before gives the same library
        // again without running its initialisers (dlopen(3)); the operator's configuration names
        // it, and it is as trusted as the first load.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(Error::LibraryLoading)?;
        if library.C_GetFunctionList.is_err() {
            return Err(Error::MissingSymbol("C_GetFunctionList"));
        }
        let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
        // SAFETY: PKCS#11 v3.1 §5.4.4: C_GetFunctionList may be called at any time and stores a
        // pointer to the library's own list into the location given, which is valid here.
        Rv::from(unsafe { library.C_GetFunctionList(&mut list) })
            .into_result(Function::GetFunctionList)?;
        // SAFETY: §5.4.4: on CKR_OK the pointer is to a CK_FUNCTION_LIST that lives as long as the
        // library is loaded; `as_ref` refuses null. The member is copied out.
        let c_sign = unsafe { list.as_ref() }
            .and_then(|l| l.C_Sign)
            .ok_or(Error::NullFunctionPointer)?;
        Ok(Self {
            c_sign,
            _library: library,
        })
    }

    /// Signs `data` in one part.
    ///
    /// # Errors
    /// The module's. An operation may then still be active: drop the session.
    pub fn sign(
        &self,
        session: &Session,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, Error> {
        session.sign_init(mechanism, key)?;
        let mut out = vec![0_u8; MAX_SIGNATURE];
        let mut length = CK_ULONG::try_from(out.len())?;
        // SAFETY: PKCS#11 v3.1 §5.13.2: pData is read for ulDataLen bytes and not written (the
        // missing `const` is the C header's); pSignature has room for *pulSignatureLen bytes (§5.2:
        // the module writes no more than that and else gives CKR_BUFFER_TOO_SMALL). Both buffers
        // outlive the call. The session is open (borrowed) and used by this thread alone, as
        // `Session` is not `Sync` (§5.6: one active operation a session).
        let rv = unsafe {
            (self.c_sign)(
                session.handle(),
                data.as_ptr().cast_mut(),
                CK_ULONG::try_from(data.len())?,
                out.as_mut_ptr(),
                &mut length,
            )
        };
        Rv::from(rv).into_result(Function::Sign)?;
        let length = usize::try_from(length)?;
        if length > MAX_SIGNATURE {
            // Against §5.2; what was written is not known.
            return Err(Error::InvalidValue);
        }
        out.truncate(length);
        Ok(out)
    }
}

impl std::fmt::Debug for RawSign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawSign")
    }
}
