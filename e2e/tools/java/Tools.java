import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command line tools one after another in one process: starting a JVM for each costs more than
 * the tools themselves. Requests are JSON lines {"main": class, "arguments": [...], "stdin": text}; answers
 * {"status": n, "out": text, "err": text}.
 */
public final class Tools {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final ByteArrayOutputStream err = new ByteArrayOutputStream();
    private final List<Runnable> hooks = new ArrayList<>();
    private Integer status;

    private Tools() {
    }

    /** Unwinds the stack of a tool that asked to exit. */
    private static final class Left extends Error {
        private static final long serialVersionUID = 1;
    }

    public static void main(String[] words) throws Exception {
        InputStream input = System.in;
        PrintStream output = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(input, StandardCharsets.UTF_8));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            JsonNode request = JSON.readTree(line);
            output.println(JSON.writeValueAsString(new Tools().run(request)));
        }
    }

    private Map<String, Object> run(JsonNode request) throws Exception {
        List<String> arguments = new ArrayList<>();
        request.get("arguments").forEach(word -> arguments.add(word.asText()));
        System.setIn(new ByteArrayInputStream(request.get("stdin").asText().getBytes(StandardCharsets.UTF_8)));
        System.setOut(new PrintStream(out, true));
        System.setErr(new PrintStream(err, true));
        Exit.setExitProcedure(this::leave);
        Exit.setHaltProcedure(this::leave);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        try {
            Class.forName(request.get("main").asText()).getMethod("main", String[].class)
                .invoke(null, (Object) arguments.toArray(new String[0]));
            leave(0, null);
        } catch (InvocationTargetException failure) {
            if (status == null) {
                failure.getCause().printStackTrace();
                status = 1;
            }
        } catch (Left expected) {
            // It has left.
        }
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("status", status);
        answer.put("out", out.toString(StandardCharsets.UTF_8));
        answer.put("err", err.toString(StandardCharsets.UTF_8));
        return answer;
    }

    /** What a tool prints after it asked to exit, it would never have printed. */
    private void leave(int code, String message) {
        if (status == null) {
            status = code;
            if (message != null) {
                System.err.println(message);
            }
            hooks.forEach(Runnable::run);
            System.out.flush();
            System.setOut(new PrintStream(new ByteArrayOutputStream()));
            System.setErr(new PrintStream(new ByteArrayOutputStream()));
        }
        throw new Left();
    }
}
