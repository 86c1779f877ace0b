"""The one exception of this package."""

_NAMES = {-1: "TD_EINVAL", -2: "TD_ENOMEM", -3: "TD_EUNSUPPORTED", -4: "TD_EDEVICE", -5: "TD_ESTATE", -6: "TD_EIO",
          -7: "TD_EINTERNAL"}
EINVAL, ENOMEM, EUNSUPPORTED, EDEVICE, ESTATE, EIO, EINTERNAL = sorted(_NAMES, reverse=True)


class TandemError(RuntimeError):
    """A call that Tandem refused or that failed. `status` is the td_status of tandem.h, `name` its name; the text names
    the field, its value and what is allowed. With EINVAL, ENOMEM and ESTATE nothing has changed."""

    def __init__(self, message: str, status: int = EINVAL):
        super().__init__(message)
        self.status = status

    @property
    def name(self) -> str:
        return _NAMES.get(self.status, f"status {self.status}")
