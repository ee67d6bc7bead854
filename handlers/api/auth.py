"""Registration, login and logout (docs/design/api.md)."""

from handlers.api.base import ApiHandler
from taskapp.core.errors import NotAuthenticated
from taskapp.forms.accounts import LOGIN, REGISTRATION
from taskapp.operations.accounts import log_in, log_out, register


class RegisterApi(ApiHandler):
    """POST /api/auth/register."""

    is_public = True
    max_body_size = REGISTRATION.max_body_size

    async def post(self) -> None:
        """Create an account."""
        created = await register(self.services, self.read_json(), self.address)
        message = "User registered successfully"
        self.write_json({"message": message, "userId": created.user_id}, 201)


class LoginApi(ApiHandler):
    """POST /api/auth/login."""

    is_public = True
    max_body_size = LOGIN.max_body_size

    async def post(self) -> None:
        """Create a session and return its token."""
        login = await log_in(
            self.services,
            self.read_json(),
            self.address,
            self.services.signer.new_bearer_token,
            user_agent=self.user_agent,
        )
        self.write_json({"token": login.token, "user": {"id": login.user_id, "email": login.email}})


class LogoutApi(ApiHandler):
    """POST /api/auth/logout."""

    async def post(self) -> None:
        """End the session, or revoke the API token."""
        if not await log_out(self.services, self.session):
            raise NotAuthenticated
        self.write_json({"message": "Logged out successfully"})
