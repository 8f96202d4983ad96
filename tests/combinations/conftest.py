from tests.configs.conftest import toy_folder  # noqa: F401, a fixture
