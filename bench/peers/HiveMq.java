// HiveMQ CE inside a process, for the comparison: java HiveMq CONFIGURATION-FOLDER DATA-FOLDER EXTENSIONS-FOLDER.
// Without an extension that lets clients in, HiveMQ refuses all; who has a certificate has shown enough.
import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Path;

public final class HiveMq {
    private static final class LetIn implements ExtensionMain {
        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            SimpleAuthenticator letIn = (asked, answer) -> answer.authenticateSuccessfully();
            Services.securityRegistry().setAuthenticatorProvider(asked -> letIn);
        }

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    }

    public static void main(String[] folders) {
        EmbeddedExtension extension = EmbeddedExtension.builder()
                .withId("let-in").withName("let in").withVersion("1").withExtensionMain(new LetIn()).build();
        EmbeddedHiveMQ.builder()
                .withConfigurationFolder(Path.of(folders[0]))
                .withDataFolder(Path.of(folders[1]))
                .withExtensionsFolder(Path.of(folders[2]))
                .withEmbeddedExtension(extension)
                .build().start().join();
    }
}
